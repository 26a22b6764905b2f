-- Add counts of refusals: fields 'HOUR NAME' of a hash, each with a number. Answers { 0, now }.

for _ = 1, int() do
  local field = text()
  call('HINCRBY', KEYS[2], field, int())
end
if call('PTTL', KEYS[2]) < int() then call('PEXPIRE', KEYS[2], ARGV[read_args]) end
return { 0, now }
