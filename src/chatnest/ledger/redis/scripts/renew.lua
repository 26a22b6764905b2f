-- Renew the lease of a live hold. Does nothing for a hold that has ended. `most` lowers its tokens,
-- unless it is negative. Answers { 0, now }.

local id, lease, most = text(), int(), int()
for _, account in ipairs(accounts) do
  local part = part_of(account, id)
  if part and part.state == 'R' then
    if most >= 0 and most < part.tokens then
      for field in string.gmatch(part.lines, 'T=(%S+)') do
        local c = counter(account, field)
        c.held = math.max(0, c.held - (part.tokens - most))
        write(account, field, c)
      end
      part.tokens = most
    end
    keep_part(account, id, part, now + lease, lease + keep)
    live(account.counters, lease + keep)
  end
end
return { 0, now }
