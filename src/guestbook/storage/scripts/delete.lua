-- Remove a message with its edit, and add an entry that announces it, once for each receipt.
-- KEYS: events, edits, receipt.
-- ARGV: lifetime of the receipt in ms, deadline in ms of Redis's clock (0: none), id of the
--   message, then further fields of the entry.
-- Returns the id of the new entry, 'absent' where there was no message, or 'late'.

local events, edits, receipt = unpack(KEYS)
local lifetime, deadline, message = unpack(ARGV, 1, 3)

local known = redis.call('GET', receipt)
if known then return known end
if is_late(deadline) then return 'late' end

local answer = 'absent'
if is_message(events, message) then
  redis.call('XDEL', events, message)
  answer = add_change(events, edits, message, {'deleted', unpack(ARGV, 3)})
end
redis.call('SET', receipt, answer, 'PX', lifetime)
return answer
