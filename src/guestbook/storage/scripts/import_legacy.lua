-- Add one item of the original application's list as messages, once.
-- KEYS: events, trimmed, edits, number of items imported so far.
-- ARGV: entries to keep, their age in ms (0: any), index of the item, pod, then the texts.
-- Returns 1, or 0 if the item has been imported before.

if tonumber(redis.call('GET', KEYS[4]) or 0) ~= tonumber(ARGV[3]) then return 0 end
for i = 5, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'text', ARGV[i], 'pod', ARGV[4])
end
redis.call('INCR', KEYS[4])
trim(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2])
return 1
