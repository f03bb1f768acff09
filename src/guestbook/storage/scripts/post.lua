-- Add a message, once for each receipt.
-- KEYS: events (or held), trimmed, edits, receipt, rate, prefix of the keys of addresses.
-- ARGV: entries to keep, their age in ms (0: any), lifetime of the receipt in ms, deadline in ms of
--   Redis's clock (0: none), memo kept in the receipt, posts allowed (0: any number), in how many
--   ms, second half of the id of a held message (0: it is not held), address to remember ('':
--   none), then the entry's fields.
-- Returns {'new' or 'known', receipt}, {'late'}, {'full'}, or {'rate_limited', ms to wait}.
--
-- The receipt makes it safe to send the command again when its answer was lost. The deadline makes
-- a command that arrives after its sender gave up do nothing.

local events, trimmed, edits, receipt, rate, addresses = unpack(KEYS)
local max, age, lifetime, deadline, memo, posts, window, seq, address = unpack(ARGV, 1, 9)

local known = redis.call('GET', receipt)
if known then return {'known', known} end
if is_late(deadline) then return {'late'} end
if seq ~= '0' and redis.call('XLEN', events) >= tonumber(max) then return {'full'} end
local wait = wait_for_rate(rate, posts, window)
if wait then return {'rate_limited', wait} end

local id
if seq == '0' then
  id = redis.call('XADD', events, '*', unpack(ARGV, 10))
  trim(events, trimmed, edits, max, age)
else
  id = redis.pcall('XADD', events, clock() .. '-' .. seq, unpack(ARGV, 10))
  if type(id) == 'table' then
    -- The last id is as new, or newer: the one after it has such a second half, too. '*' would take
    -- another one where Redis 7.0 has come to the next ms.
    local ms = string.match(describe(events)['last-generated-id'], '%d+')
    id = redis.call('XADD', events, ms .. '-*', unpack(ARGV, 10))
  end
end
if address ~= '' then redis.call('SET', addresses .. id, address, 'PX', 24 * 3600 * 1000) end
local new = id .. ' ' .. memo
redis.call('SET', receipt, new, 'PX', lifetime)
return {'new', new}
