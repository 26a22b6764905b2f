"""RedisLedger: the books in Redis or Valkey, for workers on several machines."""

from chatnest.ledger.redis.ledger import RedisLedger

__all__ = ["RedisLedger"]
