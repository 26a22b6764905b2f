"""Prices of models, and the costs of requests and turns, in whole numbers. No I/O."""

from chatnest.prices.price import Bill, CostBound, Note, Price
from chatnest.prices.tables import Prices, PricesGiven, PriceTable

__all__ = ["Bill", "CostBound", "Note", "Price", "PriceTable", "Prices", "PricesGiven"]
