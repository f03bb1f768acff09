-- Add a message, once for each receipt.
-- KEYS: events, trimmed, receipt, rate.
-- ARGV: entries to keep, their age in ms (0: any), lifetime of the receipt in ms, deadline in ms of
--   Redis's clock (0: none), memo kept in the receipt, posts allowed (0: any number), in how many
--   ms, then the entry's fields.
-- Returns {'new' or 'known', receipt}, {'late'}, or {'rate_limited', ms to wait}.
--
-- The receipt makes it safe to send the command again when its answer was lost. The deadline makes
-- a command that arrives after its sender gave up do nothing. The rate is a list of the times of
-- the last posts from an address, newest first.

local receipt = redis.call('GET', KEYS[3])
if receipt then return {'known', receipt} end
local now = clock()
if tonumber(ARGV[4]) > 0 and now > tonumber(ARGV[4]) then return {'late'} end

local posts, window = tonumber(ARGV[6]), tonumber(ARGV[7])
if posts > 0 then
  local last = redis.call('LINDEX', KEYS[4], posts - 1)
  if last and last + window > now then return {'rate_limited', last + window - now} end
  redis.call('LPUSH', KEYS[4], now)
  redis.call('LTRIM', KEYS[4], 0, posts - 1)
  redis.call('PEXPIRE', KEYS[4], window)
end

local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 8))
receipt = id .. ' ' .. ARGV[5]
redis.call('SET', KEYS[3], receipt, 'PX', ARGV[3])
trim(KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
return {'new', receipt}
