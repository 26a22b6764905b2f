-- The signals of the runs whose hashes are KEYS, a number for each: 1 for cancelled, 2 for read, 3 for
-- both, 4 for an unknown run, else 0. A read is reported once.

local found = {}
for i, run in ipairs(KEYS) do
  local owner, outcome, cancelled, read =
    unpack(redis.call('HMGET', run, 'owner', 'outcome', 'cancelled', 'read'))
  if not owner or outcome == 'refused' then
    found[i] = 4
  else
    if read then redis.call('HDEL', run, 'read') end
    found[i] = (cancelled and 1 or 0) + (read and 2 or 0)
  end
end
return found
