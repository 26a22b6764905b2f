-- Undo a reservation, and refuse it if it arrives later; as release in model.py. With `undo`, its
-- admissions are removed from the windows as well, and it may be requested again. Answers { 0, now }.

local id, remember, undo = text(), int(), int()
local end_at = 4 * #accounts + 2

if call('EXISTS', KEYS[end_at]) == 0 then
  for i, account in ipairs(accounts) do
    local part = part_of(account, id)
    if part then
      finish(account, part, 0, false)
      drop_part(account, id)
      if part.state == 'X' and part.lines ~= '' then
        note(account, id, part, 'tokens', '0', 'source', 'none', 'outcome', 'released',
          'lines', part.lines)
      end
    end
  end
  if undo == 1 then
    for i = end_at + 1, #KEYS do call('ZREM', KEYS[i], id) end
  else
    call('SET', KEYS[end_at], 'R 0', 'PX', remember)
  end
end
return { 0, now }
