-- Limits and their states. Follows the common part in reserve and usage.

local DAYS, MINUTE = 3, 60000

local limits, off_days = {}, false
for i = 1, int() do
  local limit = { kind = text(), most = int() }
  if limit.kind == 'rate' then
    limit.window, limit.key = int(), KEYS[int()]
    limit.place = limit.key
  else
    limit.index = int()
    limit.account = accounts[limit.index]
    if limit.kind == 'budget' then
      -- Two consecutive days; the server's clock decides which one it is.
      local start, middle, stop = int(), int(), int()
      local first, second, oldest = text(), text(), text()
      off_days = off_days or now < start or now >= stop
      limit.field, limit.stop = first, middle
      if now >= middle then limit.field, limit.stop = second, stop end
      limit.oldest = oldest
    else
      limit.field = text()
    end
    limit.place = limit.index .. ' ' .. limit.field
  end
  limits[i] = limit
end

-- After the clock was set back, times of admission in the future count as now.
local function entry(key, index)
  return math.min(now, tonumber(call('ZRANGE', key, index, index, 'WITHSCORES')[2]))
end

-- As slide in window.py: drop the entries that have left the window. Returns how many are left, the
-- time of the oldest or -1, and how many entries that have left are still to be removed.
local function slide(key, window)
  local size = call('ZCARD', key)
  if size == 0 then return 0, -1, 0 end
  local gone, left = now - window, 0
  local first = entry(key, 0)
  if first <= gone then
    left = call('ZCOUNT', key, '-inf', string.format('%d', gone))
    local removed = math.min(left, ENTRIES_AT_ONCE)
    call('ZREMRANGEBYRANK', key, 0, removed - 1)
    size, left = size - left, left - removed
    if size == 0 then return 0, -1, left end
    first = entry(key, left)
  end
  if tonumber(call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]) > now then
    local ahead = call('ZRANGEBYSCORE', key, '(' .. string.format('%d', now), '+inf',
      'LIMIT', 0, ENTRIES_AT_ONCE)
    for _, id in ipairs(ahead) do call('ZADD', key, now, id) end
    live(key, window, MINUTE)
  end
  return size, first, left
end

-- Returns { used, held, time of the oldest entry or -1 }, and the index of a window's first live
-- entry, or the counter. Limits that share a counter get the same table.
local counted = {}
local function state_of(limit)
  if limit.kind == 'rate' then
    local size, first, left = slide(limit.key, limit.window)
    return { size, 0, first }, left
  end
  local c = counted[limit.place] or counter(limit.account, limit.field)
  counted[limit.place] = c
  return { math.max(0, c.settled + c.adjusted), c.held, -1 }, c
end

local function states_into(answer)
  for _, limit in ipairs(limits) do
    local state = state_of(limit)
    for i = 1, 3 do answer[#answer + 1] = state[i] end
  end
  return answer
end
