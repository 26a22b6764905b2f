-- One operation on a run: a hash, and a list of batches, 'FIRST COUNT DATA'. ARGV[1] is the operation.

local run, batches, what = KEYS[1], KEYS[2], ARGV[1]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function live(ms)
  call('PEXPIRE', run, ms)
  call('PEXPIRE', batches, ms)
end

if what == 'begin' then
  call('DEL', run, batches)
  call('HSET', run, 'owner', ARGV[2], 'key', ARGV[3], 'lives_until', now + ARGV[4], 'size', 0,
    'dropped', 0, 'last', 0)
  call('PEXPIRE', run, ARGV[5])
  return 1
end

if call('EXISTS', run) == 0 then return false end
local refused = call('HGET', run, 'outcome') == 'refused'
if refused and what ~= 'read' then return false end

if what == 'finish' then
  local last = tonumber(call('HGET', run, 'last'))
  add(run, batches, last, tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[6]))
  if call('HEXISTS', run, 'outcome') == 0 then
    call('HSET', run, 'outcome', ARGV[2], 'charged', ARGV[3], 'source', ARGV[4])
    live(ARGV[5])
  end
  return call('HGET', run, 'key')
elseif what == 'key' then
  return call('HGET', run, 'key')
elseif what == 'forget' then
  call('DEL', run, batches)
  return 1
elseif what == 'drop' then
  call('DEL', batches)
  call('HSET', run, 'outcome', 'refused', 'charged', 0, 'source', 'none')
  call('PEXPIRE', run, ARGV[2])
  return 1
elseif what == 'cancel' then
  call('HSET', run, 'cancelled', 1)
  return 1
end

-- read
local after = tonumber(ARGV[2])
if call('HGET', run, 'owner') ~= ARGV[3] then return false end
local lives_until, dropped, last, outcome, charged, source = unpack(call('HMGET', run,
  'lives_until', 'dropped', 'last', 'outcome', 'charged', 'source'))
if not outcome then call('HSET', run, 'read', 1) end
local found = {}
if after < tonumber(last) then
  for _, batch in ipairs(call('LRANGE', batches, 0, -1)) do
    local first, count = string.match(batch, '^(%d+) (%d+) ')
    if first + count - 1 > after then found[#found + 1] = batch end
  end
end
local lost = not outcome and tonumber(lives_until) < now
return { dropped, last, outcome or '', charged or '0', source or '', lost and 1 or 0, found }
