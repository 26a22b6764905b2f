-- Write the copy of the mark in another slot. Answers { 0 }.

redis.call('SET', KEYS[1], ARGV[1])
return { 0 }
