-- An account at one instant: { counters, holds, ends of leases, the server's time }.

local call = redis.call
return {
  call('HGETALL', KEYS[1]), call('HGETALL', KEYS[2]), call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'),
  call('TIME'),
}
