-- Remove a message and add an entry that announces it, once for each receipt.
-- KEYS: events, receipt.
-- ARGV: lifetime of the receipt in ms, deadline in ms of Redis's clock (0: none), id of the
--   message, then further fields of the entry.
-- Returns the id of the new entry, 'absent' where there was no message, or 'late'.

local receipt = redis.call('GET', KEYS[2])
if receipt then return receipt end
if tonumber(ARGV[2]) > 0 and clock() > tonumber(ARGV[2]) then return 'late' end

local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
receipt = 'absent'
if entry and entry[2][1] ~= 'deleted' then
  redis.call('XDEL', KEYS[1], ARGV[3])
  receipt = redis.call('XADD', KEYS[1], '*', 'deleted', unpack(ARGV, 3))
end
redis.call('SET', KEYS[2], receipt, 'PX', ARGV[1])
return receipt
