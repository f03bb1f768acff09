-- Return the text of INFO: redis-py makes a dictionary of it.

return redis.call('INFO')
