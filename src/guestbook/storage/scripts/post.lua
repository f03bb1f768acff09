-- Add a message, once for each receipt.
-- KEYS: events, trimmed, edits, receipt, rate.
-- ARGV: entries to keep, their age in ms (0: any), lifetime of the receipt in ms, deadline in ms of
--   Redis's clock (0: none), memo kept in the receipt, posts allowed (0: any number), in how many
--   ms, then the entry's fields.
-- Returns {'new' or 'known', receipt}, {'late'}, or {'rate_limited', ms to wait}.
--
-- The receipt makes it safe to send the command again when its answer was lost. The deadline makes
-- a command that arrives after its sender gave up do nothing.

local events, trimmed, edits, receipt, rate = unpack(KEYS)
local max, age, lifetime, deadline, memo, posts, window = unpack(ARGV, 1, 7)

local known = redis.call('GET', receipt)
if known then return {'known', known} end
local now = clock()
if tonumber(deadline) > 0 and now > tonumber(deadline) then return {'late'} end
local wait = wait_for_rate(rate, tonumber(posts), tonumber(window), now)
if wait then return {'rate_limited', wait} end

local new = redis.call('XADD', events, '*', unpack(ARGV, 8)) .. ' ' .. memo
redis.call('SET', receipt, new, 'PX', lifetime)
trim(events, trimmed, edits, tonumber(max), tonumber(age))
return {'new', new}
