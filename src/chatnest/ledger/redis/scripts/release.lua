-- Undo a reservation, and refuse it if it arrives later; as release in model.py. With `undo`, its
-- admissions are removed from the windows as well, and it may be requested again. Answers { 0, now }.

local id, remember, undo = text(), int(), int()
local end_at = 4 * #accounts + 2

read_bucket_keys()
if call('EXISTS', KEYS[end_at]) == 0 then
  for _, account in ipairs(accounts) do
    local part = part_of(account, id)
    if part then
      finish(account, part, { tokens = 0, money = 0 }, 'released')
      look(account, part.lines, keep)
      drop_part(account, id)
      if part.state == 'X' and (part.lines ~= '' or part.kept > 0) then
        note(account, id, part, 'tokens', '0', 'money', '0', 'source', 'none',
          'outcome', 'released', 'lines', plain(part.lines), 'counted', part.kept > 0 and '1' or '0')
      end
    end
  end
  if undo == 1 then
    while read_args < #ARGV do call('ZREM', KEYS[int()], id) end
  else
    call('SET', KEYS[end_at], 'R 0 0', 'PX', remember)
  end
end
return { 0, now }
