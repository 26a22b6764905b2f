"""A Redis or Valkey server: its address, and the connections of one event loop to it.

Imported when a RedisLedger is made, since redis is an extra. Apart from redis_reasons.py, no other
module imports redis-py.
"""

from chatnest.stores.redis.address import Address, slot_of
from chatnest.stores.redis.link import Link, Script

__all__ = ["Address", "Link", "Script", "slot_of"]
