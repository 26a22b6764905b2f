-- Renew the lease of a live hold. Does nothing for a hold that has ended. `most` lowers its output,
-- unless it is negative; a token of it costs `per` money. Answers { 0, now }.

local id, lease, most, per = text(), int(), int(), int()
read_bucket_keys()
for _, account in ipairs(accounts) do
  local part = part_of(account, id)
  if part and part.state == 'R' then
    if most >= 0 and most < part.output then
      local less = { T = part.output - most, M = (part.output - most) * per, Q = 0, S = 0 }
      for unit, field in string.gmatch(part.lines, '(%a)=(%S+)') do
        local of = string.upper(unit)
        if unit ~= of then
          local place, serial = string.match(field, '^(.*):(%d+)$')
          local key = bucket_keys[account.index .. ' ' .. place]
          if key then correct_bucket(key, tonumber(serial), -less[of]) end
        elseif less[of] > 0 then
          local c = counter(account, field)
          c.held = math.max(0, c.held - less[of])
          write(account, field, c)
        end
      end
      part.tokens, part.money, part.output = part.tokens - less.T, part.money - less.M, most
    end
    keep_part(account, id, part, now + lease, lease + keep)
    live_counters(account, lease + keep)
  end
end
return { 0, now }
