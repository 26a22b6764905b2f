-- Add a batch to each run, if there is one, and renew its lease. KEYS has the hash and the list of
-- batches of each run. ARGV has the lease, the maximum bytes, the time to live, and for each run the
-- number of its first event, the count and the data. Answers for each run whether it is known.

local call = redis.call
local time = call('TIME')
local lives_until = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local most, keep = tonumber(ARGV[2]), ARGV[3]

local function add(run, batches, last, first, count, data)
  if first > last + 1 then -- a gap: the events before it are useless
    call('DEL', batches)
    call('HSET', run, 'size', 0, 'dropped', first - 1)
  end
  call('RPUSH', batches, first .. ' ' .. count .. ' ' .. data)
  call('HSET', run, 'last', first + count - 1)
  local size = call('HINCRBY', run, 'size', #data)
  while size > most do
    local f, c, d = string.match(call('LPOP', batches), '^(%d+) (%d+) (.*)$')
    size = call('HINCRBY', run, 'size', -#d)
    call('HSET', run, 'dropped', f + c - 1)
  end
end

local known = {}
for i = 1, #KEYS / 2 do
  local run, batches, at = KEYS[2 * i - 1], KEYS[2 * i], 3 * i + 1
  local last, outcome = unpack(call('HMGET', run, 'last', 'outcome'))
  known[i] = last and outcome ~= 'refused' and 1 or 0
  if known[i] == 1 then
    local first, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    call('HSET', run, 'lives_until', lives_until)
    if count > 0 and first > tonumber(last) then -- a repetition adds no events
      add(run, batches, tonumber(last), first, count, ARGV[at + 2])
    end
    call('PEXPIRE', run, keep)
    call('PEXPIRE', batches, keep)
  end
end
return known
