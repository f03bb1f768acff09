-- Add an entry with the new text of a message, once for each receipt.
-- KEYS: events, trimmed, edits, receipt, rate.
-- ARGV: entries to keep, their age in ms (0: any), lifetime of the receipt in ms, deadline in ms of
--   Redis's clock (0: none), posts allowed (0: any number), in how many ms, id of the message, its
--   new text, then further fields of the entry.
-- Returns {id of the new entry}, {'absent'} where there is no message, {'late'}, or
--   {'rate_limited', ms to wait}.

local events, trimmed, edits, receipt, rate = unpack(KEYS)
local max, age, lifetime, deadline, posts, window, message, words = unpack(ARGV, 1, 8)

local known = redis.call('GET', receipt)
if known then return {known} end
if is_late(deadline) then return {'late'} end
if not is_message(events, message) then
  redis.call('SET', receipt, 'absent', 'PX', lifetime)
  return {'absent'}
end
local wait = wait_for_rate(rate, posts, window)
if wait then return {'rate_limited', wait} end

local fields = {'edited', message, 'body', words, unpack(ARGV, 9)}
local id, replaced = add_change(events, edits, message, fields)
local ids = replaced and id .. ',' .. replaced or id
-- That is 20 ids, if all end in -0; the last one may be cut.
if #ids > 319 then ids = string.match(string.sub(ids, 1, 320), '^(.*),') end
redis.call('HSET', edits, message, ids .. ' ' .. words)
redis.call('SET', receipt, id, 'PX', lifetime)
trim(events, trimmed, edits, max, age)
return {id}
