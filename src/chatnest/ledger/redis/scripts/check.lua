-- Write something that is soon forgotten. Answers { 0, now }.

call('SET', KEYS[2], '1', 'PX', 10000)
return { 0, now }
