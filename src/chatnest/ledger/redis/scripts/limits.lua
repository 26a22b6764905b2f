-- Limits and their states. Follows the common part in reserve and usage. The limits are one argument,
-- packed as in plan.py; the keys of their windows follow those of the accounts.

local DAYS, MINUTE, NEVER = 3, 60000, -1

local plan = cmsgpack.unpack(text())
local limits = plan.limits
-- Today as the client knows it: an answer of DAYS has the server's time for another try.
local off_days = now < plan.begins or now >= plan.ends
for _, limit in ipairs(limits) do
  if limit.index then limit.account = accounts[limit.index] end
  if limit.window then limit.key = KEYS[4 * #accounts + 1 + limit.place] end
  if limit.calendar then limit.calendar = plan.calendars[limit.calendar] end
end

-- The counters of each account, as texts, are read at once.
for i, account in ipairs(accounts) do
  account.rows, account.changed = {}, {}
  local fields = plan.fields[i]
  if #fields > 0 and not off_days then
    local rows = call('HMGET', account.counters, unpack(fields))
    for j, field in ipairs(fields) do account.rows[field] = rows[j] end
  end
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

-- As slide in sliding.py.
local function slide_buckets(key, length)
  local w = buckets_of(key)
  local changed = false
  for serial = w.last, w.first, -1 do
    local b = bucket(key, serial)
    if b.last <= now then break end
    b.opened, b.last = math.min(b.opened, now), now
    put_bucket(key, serial, b)
    live(key, length, MINUTE)
  end
  while w.first <= w.last do
    local b = bucket(key, w.first)
    w.oldest = b.last
    if b.last + length > now then break end
    call('HDEL', key, string.format('%d', w.first))
    w.total, w.first, changed = w.total - b.weight, w.first + 1, true
  end
  if changed and w.first <= w.last then put_head(key, w) end
  if changed and w.first > w.last then call('DEL', key) end
  return w
end

-- The sums over the days of a window except today: as `sums` of the books. A row of before does not
-- know its end, and counts by its name.
local function past(limit)
  local used, held = 0, 0
  local on, rows, counters = limit.calendar, limit.account.rows, limit.account.counters
  local function add(day, packed)
    if not packed or day == on.today then return end
    local c = unpacked(packed)
    local counts = c.ends > on.start
    if c.ends == 0 then counts = day > on.first and day < on.last end
    if counts then used, held = used + c.settled + c.adjusted, held + c.held end
  end
  if on.window == 'day' then
    add(on.first, rows[limit.name .. ':' .. on.first])
    add(on.last, rows[limit.name .. ':' .. on.last])
    return used, held
  end
  local late_field, label = limit.name .. ':late', limit.name .. ':~' .. on.window
  local version, latest = string.match(rows[late_field] or '0 ', '^(%d+) (.*)$')
  if latest ~= on.today then
    version = string.format('%d', version + 1)
    rows[late_field] = version .. ' ' .. on.today
    call('HSET', counters, late_field, rows[late_field])
  end
  local v, day, start, u, h =
    string.match(rows[label] or '', '^(%d+) (%S+) (%d+) (-?%d+) (%d+)$')
  if v == version and day == on.today and tonumber(start) == on.start then
    return tonumber(u), tonumber(h)
  end
  local all = call('HGETALL', counters)
  for i = 1, #all, 2 do
    local name, of = string.match(all[i], '^(.*):(%d%d%d%d%-%d%d%-%d%d)$')
    if not name and on.window == 'lifetime' then name, of = string.match(all[i], '^(.*):(ever)$') end
    if name == limit.name and of >= on.first and of <= on.last then add(of, all[i + 1]) end
  end
  rows[label] = string.format('%s %s %d %d %d', version, on.today, on.start, used, held)
  call('HSET', counters, label, rows[label])
  return used, held
end

-- Returns the state of a limit, whose used and held count, with the counter, or what its kind needs.
-- Limits that share a counter get the same table.
local counted, windows = {}, {}
local function state_of(limit)
  local state = { used = 0, held = 0, first = -1, granted = 0, serial = -1, over = 0 }
  if limit.kind == 'rate' then
    state.used, state.first, limit.left = slide(limit.key, limit.window)
  elseif limit.kind == 'buckets' then
    local w = windows[limit.key] or slide_buckets(limit.key, limit.window)
    windows[limit.key] = w
    state.used = w.total
    if w.first <= w.last then state.first = w.oldest end
  else
    local rows = limit.account.rows
    local c = counted[limit.place] or unpacked(rows[limit.field])
    counted[limit.place] = c
    state.held = c.held
    if limit.kind == 'budget' then
      local used, held = past(limit)
      state.used, state.held = math.max(0, used + c.settled + c.adjusted), held + c.held
      if limit.calendar.window == 'lifetime' then
        state.granted = unpacked(rows[limit.name .. ':granted']).adjusted
      end
    end
  end
  return state
end

local function put_state(answer, state)
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3] = state.used, state.held, state.first
  answer[n + 4], answer[n + 5], answer[n + 6] = state.granted, state.serial, state.over
end

local function states_into(answer)
  for _, limit in ipairs(limits) do put_state(answer, state_of(limit)) end
  return answer
end
