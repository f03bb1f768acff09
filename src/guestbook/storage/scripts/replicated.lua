-- Look up receipts, and write something for a WAIT that follows on the same connection: it then
-- waits for this write, and so for all writes before it.
-- KEYS: marker, then receipts.
-- Returns for each receipt 1 if it exists, else 0.

local found = {}
for i = 2, #KEYS do found[i - 1] = redis.call('EXISTS', KEYS[i]) end
redis.call('SET', KEYS[1], '', 'PX', 60000)
return found
