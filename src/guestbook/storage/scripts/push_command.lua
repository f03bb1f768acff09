-- Queue a command for a process.
-- KEYS: queue.
-- ARGV: how many commands may wait, how many ms the queue lives, the command.
-- Returns 1, or 0 if too many are waiting.

if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
