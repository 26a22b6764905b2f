-- The beginning of every operation on accounts, after the mark. KEYS are the mark, four keys for each
-- account whose counters are used, then the others, and at last one for the roll-up of usage.

local DUE_AT_ONCE, ENTRIES_AT_ONCE, FIELDS_AT_ONCE = 64, 1000, 512
local SLACK, DAY = 3600000, 86400000
local EXACT = 9007199254740991 -- 2^53 - 1: a larger number would not be exact

local keep, most_turns = int(), int()
local accounts = {}
for i = 1, int() do
  local first = 4 * (i - 1) + 1
  accounts[i] = {
    index = i,
    counters = KEYS[first + 1], holds = KEYS[first + 2], due = KEYS[first + 3],
    turns = KEYS[first + 4],
  }
end

-- Let a key live for at least `ms`. The TTL is somewhat longer, so that it is seldom written.
local function live(key, ms, slack)
  if call('PTTL', key) < ms then call('PEXPIRE', key, ms + (slack or SLACK)) end
end

-- The same for the counters of an account. Those with a lifetime do not expire.
local function live_counters(account, ms)
  local left = call('PTTL', account.counters)
  if left >= ms then return end
  if call('HEXISTS', account.counters, '!ever') == 0 then
    call('PEXPIRE', account.counters, ms + SLACK)
  elseif left >= 0 then
    call('PERSIST', account.counters)
  end
end

-- Counters: the field NAME:DAY has 'settled held overrun expired adjusted ends'. The last two may be
-- missing: a counter of before has none.

local function unpacked(packed)
  if not packed then
    return { settled = 0, held = 0, overrun = 0, expired = 0, adjusted = 0, ends = 0, fresh = true }
  end
  local s, h, o, x, a, e = string.match(packed, '^(%d+) (%d+) (%d+) (%d+) ?(-?%d*) ?(%d*)$')
  if not s then error('a counter in the books is not readable: ' .. packed) end
  return {
    settled = tonumber(s), held = tonumber(h), overrun = tonumber(o), expired = tonumber(x),
    adjusted = tonumber(a) or 0, ends = tonumber(e) or 0,
  }
end

local function is_empty(c)
  return c.settled == 0 and c.held == 0 and c.adjusted == 0
end

local function counter(account, field)
  return unpacked(call('HGET', account.counters, field))
end

-- The sums of windows are kept without the latest day, in fields NAME:~WINDOW. A write to another
-- day makes them invalid: NAME:late has 'VERSION DAY', the version of all but that day.
local function packed_counter(c)
  if c.ends > 0 then
    return string.format('%d %d %d %d %d %d', c.settled, c.held, c.overrun, c.expired, c.adjusted,
      c.ends)
  end
  local packed = string.format('%d %d %d %d', c.settled, c.held, c.overrun, c.expired)
  return c.adjusted ~= 0 and packed .. string.format(' %d', c.adjusted) or packed
end

-- The next value of NAME:late after a write to another day, or nil if it stays.
local function later(late, day)
  if not late then return nil end
  local version, latest = string.match(late, '^(%d+) (.*)$')
  return latest ~= day and string.format('%d %s', version + 1, latest) or nil
end

local function write(account, field, c)
  call('HSET', account.counters, field, packed_counter(c))
  local name, day = string.match(field, '^(.*):([^:]*)$')
  if day ~= '' then
    local late = later(call('HGET', account.counters, name .. ':late'), day)
    if late then call('HSET', account.counters, name .. ':late', late) end
  end
end

-- Buckets: sliding windows of amounts. A hash has 'h' with 'FIRST LAST TOTAL', the serials of the
-- oldest and the newest bucket and the sum of all, and for each serial 'OPENED LAST WEIGHT'. As
-- sliding.py.

local function bucket(key, serial)
  local packed = call('HGET', key, string.format('%d', serial))
  local o, l, w = string.match(packed or '', '^(%d+) (%d+) (%d+)$')
  if not o then error('a bucket in the books is not readable') end
  return { opened = tonumber(o), last = tonumber(l), weight = tonumber(w) }
end

local function put_bucket(key, serial, b)
  call('HSET', key, string.format('%d', serial),
    string.format('%d %d %d', b.opened, b.last, b.weight))
end

local function buckets_of(key)
  local f, l, t = string.match(call('HGET', key, 'h') or '1 0 0', '^(%d+) (%d+) (%d+)$')
  return { first = tonumber(f), last = tonumber(l), total = tonumber(t) }
end

local function put_head(key, w)
  call('HSET', key, 'h', string.format('%d %d %d', w.first, w.last, w.total))
end

local function correct_bucket(key, serial, more)
  local w = buckets_of(key)
  if more == 0 or serial < w.first or serial > w.last then return end
  local b = bucket(key, serial)
  more = math.max(more, -b.weight)
  b.weight, w.total = b.weight + more, w.total + more
  put_bucket(key, serial, b)
  put_head(key, w)
end

-- Usage: the roll-up (usage.py). A field 'DAY NAMES', with the day as a number, has the figures with
-- commas between them. Figures that are taken out of a row may have been added under another key: the
-- sum of all keys counts.

local USAGE_KEPT = 400 * DAY
local EXPIRED_ROW = '["","","","expired","{}"]'
local usage_key = KEYS[#KEYS]
local today = math.floor(now / DAY)

local function spend(day, names, figures)
  local field = string.format('%d %s', day, names)
  local known, sums, is_nothing = {}, {}, true
  for figure in string.gmatch(call('HGET', usage_key, field) or '', '-?%d+') do
    known[#known + 1] = tonumber(figure)
  end
  for i, figure in ipairs(figures) do
    local sum = math.min(EXACT, (known[i] or 0) + figure)
    if sum ~= 0 then is_nothing = false end
    sums[i] = string.format('%d', sum)
  end
  if is_nothing then
    call('HDEL', usage_key, field)
  else
    call('HSET', usage_key, field, table.concat(sums, ','))
    live(usage_key, USAGE_KEPT)
  end
end

local function spend_expired(day, part, sign)
  spend(day, EXPIRED_ROW, { sign, sign * part.tokens, 0, 0, 0, 0, 0, sign * part.money, sign })
end

-- Holds: the field ID has 'STATE TOKENS,MONEY,OUTPUT,KEPT ADMITTED_AT LINE LINE ...', for the lines of
-- this account; one of before has no MONEY and OUTPUT. KEPT is 1 if an expiry of this part is counted
-- as usage, which is so for one part of a hold; then the day on which it expired. STATE is R(eserved) or X (expired). LINE is
-- UNIT=FIELD with T(okens), M(oney), Q for requests or S(treams); for a bucket with a small letter and
-- NAME:WINDOW:SERIAL; the words of watches follow. `due` has the end of the lease, or for an expired hold the time to forget it.

local function part_of(account, id)
  local packed = call('HGET', account.holds, id)
  if not packed then return nil end
  local state, tokens, money, output, kept, at, lines =
    string.match(packed, '^(%u) (%d+),?(%d*),?(%d*),?(%d*) (%d+) ?(.*)$')
  return {
    state = state, tokens = tonumber(tokens), money = tonumber(money) or 0,
    output = tonumber(output) or 0, kept = tonumber(kept) or 0, at = tonumber(at), lines = lines,
  }
end

local function keep_part(account, id, part, score, ttl)
  call('HSET', account.holds, id, string.format('%s %d,%d,%d,%d %d %s', part.state, part.tokens,
    part.money, part.output, part.kept, part.at, part.lines))
  call('ZADD', account.due, score, id)
  live(account.holds, ttl)
  live(account.due, ttl)
end

local function drop_part(account, id)
  call('HDEL', account.holds, id)
  call('ZREM', account.due, id)
end

local function amounts_of(cost)
  return { T = cost.tokens, M = cost.money, Q = 1, S = 1 }
end

-- The keys of buckets, each by its account's index, a space and NAME:WINDOW.
local bucket_keys = {}
local function read_bucket_keys()
  for _ = 1, int() do
    local place = text()
    bucket_keys[place] = KEYS[int()]
  end
end

-- As _end in model.py. A part that is neither R nor X was forgotten: it is only charged.
local function finish(account, part, cost, state)
  if part.state == 'X' and part.kept > 1 then spend_expired(part.kept, part, -1) end
  local amounts, charges = amounts_of(part), amounts_of(cost)
  for unit, field in string.gmatch(part.lines, '(%a)=(%S+)') do
    local of = string.upper(unit)
    local held, charge = amounts[of], state == 'released' and 0 or charges[of]
    if unit ~= of then
      local place, serial = string.match(field, '^(.*):(%d+)$')
      local key = bucket_keys[account.index .. ' ' .. place]
      if key and part.state ~= '-' and state ~= 'expired' then
        correct_bucket(key, tonumber(serial), charge - held)
      end
    else
      local c = counter(account, field)
      local begins = c.ends == 0 or part.state == '-' and is_empty(c)
      if part.state == 'R' then c.held = math.max(0, c.held - held) end
      if unit ~= 'S' then
        if part.state == 'X' then
          local corrected = math.min(held, c.expired)
          c.settled, c.expired = c.settled - corrected, c.expired - corrected
        end
        charge = math.min(charge, EXACT - c.settled)
        c.settled = c.settled + charge
        c.overrun = c.overrun + math.max(0, charge - held)
        if state == 'expired' then c.expired = c.expired + charge end
        if begins and part.ends then c.ends = part.ends[field] or c.ends end
      end
      write(account, field, c)
    end
  end
  live_counters(account, keep)
end

-- Add a turn's record to the stream of its account and day. Records are kept as long as the counters
-- of the day: until its end, and `keep` longer. Records of grants never expire.
local function note(account, id, part, ...)
  local at = part.at and string.format('%d', part.at) or ''
  local most = account.grants and EXACT or most_turns
  call('XADD', account.grants or account.turns, 'MAXLEN', '~', string.format('%d', most), '*', 'hold', id, 'admitted_at', at,
    'settled_at', string.format('%d', now), 'held', string.format('%d', part.tokens),
    'held_money', string.format('%d', part.money), ...)
  if not account.grants then live(account.turns, DAY + keep) end
end

-- Charge expired leases in full. Those beyond DUE_AT_ONCE stay held until the next operation, which
-- counts the same.
local function expire(account)
  local due = call('ZRANGEBYSCORE', account.due, '-inf', string.format('%d', now),
    'LIMIT', 0, DUE_AT_ONCE)
  local ended = {}
  for _, id in ipairs(due) do
    local part = part_of(account, id)
    if not part or part.state == 'X' then
      drop_part(account, id)
    else
      finish(account, part, part, 'expired')
      if part.lines ~= '' or part.kept > 0 then
        note(account, id, part, 'tokens', string.format('%d', part.tokens),
          'money', string.format('%d', part.money),
          'source', 'estimated', 'outcome', 'expired', 'lines', plain(part.lines),
          'counted', part.kept > 0 and '1' or '0')
      end
      if part.kept > 0 then
        part.kept = today
        spend_expired(today, part, 1)
      end
      part.state = 'X'
      keep_part(account, id, part, now + keep, keep)
      ended[#ended + 1] = part.lines
    end
  end
  for _, lines in ipairs(ended) do look(account, lines, keep) end
end
for _, account in ipairs(accounts) do expire(account) end
