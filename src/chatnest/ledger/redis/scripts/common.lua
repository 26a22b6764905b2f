-- The beginning of every operation on accounts, after the mark. KEYS are the mark, four keys for each
-- account whose counters are used, then the others.

local DUE_AT_ONCE, ENTRIES_AT_ONCE, FIELDS_AT_ONCE = 64, 1000, 512
local SLACK, DAY = 3600000, 86400000

local keep, most_turns = int(), int()
local accounts = {}
for i = 1, int() do
  local first = 4 * (i - 1) + 1
  accounts[i] = {
    counters = KEYS[first + 1], holds = KEYS[first + 2], due = KEYS[first + 3],
    turns = KEYS[first + 4],
  }
end

-- Let a key live for at least `ms`. The TTL is somewhat longer, so that it is seldom written.
local function live(key, ms, slack)
  if call('PTTL', key) < ms then call('PEXPIRE', key, ms + (slack or SLACK)) end
end

-- Counters: the field NAME:DAY has 'settled held overrun expired', and a fifth, signed number if it
-- was adjusted.

local function counter(account, field)
  local packed = call('HGET', account.counters, field)
  if not packed then
    return { settled = 0, held = 0, overrun = 0, expired = 0, adjusted = 0, fresh = true }
  end
  local s, h, o, x, a = string.match(packed, '^(%d+) (%d+) (%d+) (%d+) ?(-?%d*)$')
  return {
    settled = tonumber(s), held = tonumber(h), overrun = tonumber(o), expired = tonumber(x),
    adjusted = tonumber(a) or 0,
  }
end

local function write(account, field, c)
  local packed = string.format('%d %d %d %d', c.settled, c.held, c.overrun, c.expired)
  if c.adjusted ~= 0 then packed = packed .. string.format(' %d', c.adjusted) end
  call('HSET', account.counters, field, packed)
end

-- Holds: the field ID has 'STATE TOKENS ADMITTED_AT LINE LINE ...', for the lines of this account.
-- STATE is R(eserved) or X (expired). LINE is T=FIELD for tokens, or S=FIELD for streams. `due` has
-- the end of the lease, or for an expired hold the time to forget it.

local function part_of(account, id)
  local packed = call('HGET', account.holds, id)
  if not packed then return nil end
  local state, tokens, at, lines = string.match(packed, '^(%u) (%d+) (%d+) ?(.*)$')
  return { state = state, tokens = tonumber(tokens), at = tonumber(at), lines = lines }
end

local function keep_part(account, id, part, score, ttl)
  call('HSET', account.holds, id,
    string.format('%s %d %d %s', part.state, part.tokens, part.at, part.lines))
  call('ZADD', account.due, score, id)
  live(account.holds, ttl)
  live(account.due, ttl)
end

local function drop_part(account, id)
  call('HDEL', account.holds, id)
  call('ZREM', account.due, id)
end

-- As _end in model.py. A part that is neither R nor X was forgotten: it is only charged.
local function finish(account, part, charge, expires)
  for unit, field in string.gmatch(part.lines, '(%u)=(%S+)') do
    local c = counter(account, field)
    if part.state == 'R' then
      c.held = math.max(0, c.held - (unit == 'T' and part.tokens or 1))
    end
    if unit == 'T' then
      if part.state == 'X' then
        local corrected = math.min(part.tokens, c.expired)
        c.settled, c.expired = c.settled - corrected, c.expired - corrected
      end
      c.settled = c.settled + charge
      c.overrun = c.overrun + math.max(0, charge - part.tokens)
      if expires then c.expired = c.expired + charge end
    end
    write(account, field, c)
  end
  live(account.counters, keep)
end

-- Add a turn's record to the stream of its account and day. Records are kept as long as the counters
-- of the day: until its end, and `keep` longer.
local function note(account, id, part, ...)
  local at = part.at and string.format('%d', part.at) or ''
  call('XADD', account.turns, 'MAXLEN', '~', most_turns, '*', 'hold', id, 'admitted_at', at,
    'settled_at', string.format('%d', now), 'held', string.format('%d', part.tokens), ...)
  live(account.turns, DAY + keep)
end

-- Charge expired leases in full. Those beyond DUE_AT_ONCE stay held until the next operation, which
-- counts the same.
local function expire(account)
  local due = call('ZRANGEBYSCORE', account.due, '-inf', string.format('%d', now),
    'LIMIT', 0, DUE_AT_ONCE)
  for _, id in ipairs(due) do
    local part = part_of(account, id)
    if not part or part.state == 'X' then
      drop_part(account, id)
    else
      finish(account, part, part.tokens, true)
      if part.lines ~= '' then
        note(account, id, part, 'tokens', string.format('%d', part.tokens),
          'source', 'estimated', 'outcome', 'expired', 'lines', part.lines)
      end
      part.state = 'X'
      keep_part(account, id, part, now + keep, keep)
    end
  end
end
for _, account in ipairs(accounts) do expire(account) end
