-- Watches: the lines of a hold also have a word for each limit with warn_at, as word_of in keys.py:
-- '!NAME:PERIOD:FIRST:LAST:START:UNIT:AMOUNT:T,T', the fields of a Watch. The counters have
-- NAME:~!PERIOD with 'GRANTS MARK AT WORD', as a WatchRow, and NAME:~!PERIOD:T with 'UNIT USED AMOUNT
-- AT STATE', as a Crossing. The second to last key of a step has the pending crossings.

local WATCHED_DAYS, MOST_PENDING = 62, 10000
local pending_key = KEYS[#KEYS - 1] -- before the roll-up
local crossed = 0 -- in this step

local function plain(lines)
  return (string.gsub(lines, ' !%S+', ''))
end

local function read_watch(word)
  local w = {}
  local name, amount, start
  name, w.period, w.first, w.last, start, w.unit, amount, w.thresholds = string.match(word,
    '^!([^:]+):([^:]+):([^:]+):([^:]+):(%d+):(%a):(%d+):([%d,]+)$')
  if not name then error('a watch in the books is not readable: ' .. word) end
  w.name = string.gsub(name, '%%(%x%x)', function(code) return string.char(tonumber(code, 16)) end)
  w.start, w.amount = tonumber(start), tonumber(amount)
  return w
end

-- The use of a counter, and the end of its day, or the number of grants.
local function used_by(packed)
  local s, a, e = string.match(packed or '0 0 0 0', '^(%d+) %d+ %d+ %d+ ?(-?%d*) ?(%d*)$')
  if not s then error('a counter in the books is not readable: ' .. packed) end
  return tonumber(s) + (tonumber(a) or 0), tonumber(e) or 0
end

local MONTHS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
local function day_after(day)
  local y, m, d = string.match(day, '^(%d+)-(%d+)-(%d+)$')
  y, m, d = tonumber(y), tonumber(m), tonumber(d) + 1
  local leap = m == 2 and y % 4 == 0 and (y % 100 ~= 0 or y % 400 == 0)
  if d > MONTHS[m] + (leap and 1 or 0) then m, d = m + 1, 1 end
  if m > 12 then y, m = y + 1, 1 end
  return string.format('%04d-%02d-%02d', y, m, d)
end

-- The use in a window, as `sums` of the books.
local function used_in(counters, w)
  local days, fields, total, day = {}, {}, 0, w.first
  while day <= w.last and #days < WATCHED_DAYS do
    days[#days + 1], fields[#fields + 1] = day, w.name .. ':' .. day
    day = day_after(day)
  end
  local rows = call('HMGET', counters, unpack(fields))
  for i, of in ipairs(days) do
    if rows[i] then
      local used, ends = used_by(rows[i])
      if ends > w.start or ends == 0 and of > w.first then total = total + used end
    end
  end
  return total
end

-- The same of a lifetime, as `all_sums`: from the sum that `past` keeps, if it is valid.
local function used_ever(counters, w)
  local known = call('HMGET', counters, w.name .. ':late', w.name .. ':~lifetime')
  local version, latest = string.match(known[1] or '', '^(%d+) (.*)$')
  local v, day, used = string.match(known[2] or '', '^(%d+) (%S+) 0 (-?%d+) %d+$')
  if v and v == version and day == latest then
    return tonumber(used) + (used_by(call('HGET', counters, w.name .. ':' .. latest)))
  end
  local all, total = call('HGETALL', counters), 0
  for i = 1, #all, 2 do
    local name = string.match(all[i], '^(.*):%d%d%d%d%-%d%d%-%d%d$')
      or string.match(all[i], '^(.*):ever$')
    if name == w.name then total = total + (used_by(all[i + 1])) end
  end
  return total
end

-- Drop the rows of windows that have ended long ago, when a new one begins.
local function forget_watches(counters, keep)
  local all, oldest = call('HGETALL', counters), now - keep - WATCHED_DAYS * 86400000
  for i = 1, #all, 2 do
    local period = string.match(all[i], '^[^:]*:~!(.*)$')
    if period and period ~= 'ever' then
      local at = string.match(all[i + 1], '^%d+ %d+ (%d+) !')
        or string.match(all[i + 1], '^%a %-?%d+ %-?%d+ (%d+) ')
      if tonumber(at) < oldest then call('HDEL', counters, all[i]) end
    end
  end
end

-- Keep a threshold that was reached: a row of the account, and a pending one.
local function cross(counters, w, period, threshold, used, most)
  local row = string.format('%s %d %d %d', w.unit, used, most, now)
  local field = string.format('%s:~!%s:%d', w.name, period, threshold)
  if call('HSETNX', counters, field, row .. ' pending') == 0 then return end
  crossed = crossed + 1
  call('ZADD', pending_key, string.format('%d', now), string.format('%s %s %d %s %s', w.name, period,
    threshold, row, string.match(counters, '{(.*)}:counters$')))
  call('ZREMRANGEBYRANK', pending_key, 0, -MOST_PENDING - 1)
  call('PEXPIRE', pending_key, 30 * 86400000)
end

-- As look_at in watching.py, for the words among these lines.
local function look(account, lines, keep)
  if not string.find(lines, ' !', 1, true) then return end
  local counters = account.counters
  for word in string.gmatch(lines, ' (!%S+)') do
    local w = read_watch(word)
    local most, grants, period, used = w.amount, 0, w.period, 0
    if w.period ~= 'ever' then
      used = used_in(counters, w)
    else
      used = used_ever(counters, w)
      local granted
      granted, grants = used_by(call('HGET', counters, w.name .. ':granted'))
      most, period = most + granted, string.format('ever#%d', grants)
    end
    local field = w.name .. ':~!' .. w.period
    local packed = call('HGET', counters, field)
    local g, m, known = string.match(packed or '', '^(%d+) (%d+) %d+ (!.*)$')
    local mark = tonumber(g) == grants and tonumber(m) or 0
    local before = mark
    local each = math.floor(most / 1000)
    for text_of in string.gmatch(w.thresholds, '%d+') do
      local threshold = tonumber(text_of)
      local needed = threshold * each + math.ceil(threshold * (most - each * 1000) / 1000)
      if threshold > mark and used > 0 and used >= needed then
        mark = threshold
        cross(counters, w, period, threshold, used, most)
      end
    end
    if mark ~= before or known ~= word or tonumber(g) ~= grants then
      call('HSET', counters, field, string.format('%d %d %d %s', grants, mark, now, word))
      if not packed then forget_watches(counters, keep) end
    end
  end
end
