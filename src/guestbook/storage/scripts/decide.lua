-- Approve, refuse or withdraw a held message, once for each receipt of a decision.
-- KEYS: held, events, trimmed, edits, receipt of the decision, prefix of all receipts, prefix of
--   the keys of addresses.
-- ARGV: entries to keep, their age in ms (0: any), lifetime of the decision's receipt in ms,
--   deadline in ms of Redis's clock (0: none), id of the message, 'approve', 'refuse' or
--   'withdraw', then further fields of the entry that an approval adds.
-- Returns {'new' or 'known', id of the new entry ('0-0': there is none), author, text and pod in
--   JSON}, {'absent'} or {'late'}.

local held, events, trimmed, edits, decision, receipts, addresses = unpack(KEYS)
local max, age, lifetime, deadline, message, verdict = unpack(ARGV, 1, 6)

local known = redis.call('GET', decision)
if known == 'absent' then return {known} end
if known then return {'known', known, redis.call('GET', decision .. ':message') or ''} end
if is_late(deadline) then return {'late'} end
local entry = redis.call('XRANGE', held, message, message)[1]
if not entry then
  redis.call('SET', decision, 'absent', 'PX', 60000)
  return {'absent'}
end

redis.call('XDEL', held, message)
local fields, values, receipt = {}, {}, ''
for i = 1, #entry[2], 2 do
  local name, value = entry[2][i], entry[2][i + 1]
  if name == 'receipt' then
    receipt = receipts .. value
  elseif name == 'text' or name == 'author' or name == 'pod' then
    fields[#fields + 1], fields[#fields + 2] = name, value
    values[name] = value
  end
end
local memo = cjson.encode({values.author or cjson.null, values.text, values.pod})
local id = '0-0'
if verdict == 'approve' then
  for i = 7, #ARGV do fields[#fields + 1] = ARGV[i] end
  id = redis.call('XADD', events, '*', unpack(fields))
  trim(events, trimmed, edits, max, age)
  local address = redis.call('GET', addresses .. message)
  if address then redis.call('SET', addresses .. id, address, 'PX', 24 * 3600 * 1000) end
  redis.call('SET', decision .. ':message', memo, 'PX', lifetime)
end
-- A client that repeats the post with its key learns the decision. After a withdrawal the receipt
-- has no text.
local posted = redis.call('GET', receipt)
if posted then
  local words = verdict == 'withdraw' and ' ' or string.match(posted, ' .*')
  redis.call('SET', receipt, id .. words, 'XX', 'KEEPTTL')
end
redis.call('SET', decision, id, 'PX', lifetime)
return {'new', id, memo}
