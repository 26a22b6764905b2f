-- Write a key that expires within seconds. Answers { 0, now }.

call('SET', KEYS[2], '1', 'PX', 10000)
return { 0, now }
