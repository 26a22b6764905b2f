-- The beginning of other scripts: adds a batch to a run, and drops the oldest beyond ``most`` bytes.

local call = redis.call

local function add(run, batches, last, first, count, data, most)
  if count == 0 or first <= last then return end -- none, or a repetition
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

