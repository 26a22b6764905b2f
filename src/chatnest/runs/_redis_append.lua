-- Add a batch to each run, if there is one, and renew its lease. KEYS has the hash and the list of
-- batches of each run. ARGV has the lease, the maximum bytes, the time to live, and for each run the
-- number of its first event, the count and the data. Answers for each run whether it is known.

local time = call('TIME')
local lives_until = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local most, keep = tonumber(ARGV[2]), ARGV[3]

local known = {}
for i = 1, #KEYS / 2 do
  local run, batches, at = KEYS[2 * i - 1], KEYS[2 * i], 3 * i + 1
  local last, outcome = unpack(call('HMGET', run, 'last', 'outcome'))
  known[i] = last and outcome ~= 'refused' and 1 or 0
  if known[i] == 1 then
    local first, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    call('HSET', run, 'lives_until', lives_until)
    add(run, batches, tonumber(last), first, count, ARGV[at + 2], most)
    call('PEXPIRE', run, keep)
    call('PEXPIRE', batches, keep)
  end
end
return known
