-- Replace all messages at once, by those of another stream or by none. The entry that is added last
-- wakes the readers, and its id is greater than all before: cursors below it are of other messages.
-- KEYS: events, trimmed, edits, dataset id, the other stream, its trimmed.
-- ARGV: new identity of the data, id ('': there is no other stream) after which messages, edits and
--   deletions are kept, because they came while the other stream was made.
-- Returns {how many messages were kept, how many could not be}.

local events, trimmed, edits, dataset_id, other, other_trimmed = unpack(KEYS)
local identity, since = unpack(ARGV)
if since ~= '' and redis.call('EXISTS', other) == 0 then
  return redis.error_reply('the messages to import have expired: import them again')
end

local kept, lost, words = 0, 0, {}
-- Add an entry that came meanwhile.
local function keep(id, fields)
  local kind, target = fields[1], fields[2]
  if kind == 'deleted' then redis.call('XDEL', other, target) end
  if kind ~= 'text' and not (kind == 'edited' and is_message(other, target)) then return end
  local answer = redis.pcall('XADD', other, id, unpack(fields))
  if type(answer) ~= 'table' then
    if kind == 'text' then kept = kept + 1 end
    if kind == 'edited' then words[target] = redis.call('HMGET', edits, target)[1] end
  elseif not redis.call('XRANGE', other, id, id)[1] then
    lost = lost + 1
  end
end

local marker = redis.call('XADD', events, '*', 'replaced', identity)
local low = '0-0'
if since == '' then
  redis.call('XTRIM', events, 'MAXLEN', 1)
else
  for _, entry in ipairs(redis.call('XRANGE', events, '(' .. since, '+')) do
    keep(entry[1], entry[2])
  end
  local answer = redis.pcall('XADD', other, marker, 'replaced', identity)
  if type(answer) == 'table' then marker = redis.call('XADD', other, '*', 'replaced', identity) end
  redis.call('RENAME', other, events)
  redis.call('PERSIST', events)
  low = redis.call('GET', other_trimmed) or low
end
redis.call('PEXPIRE', edits, 0)
for message, known in pairs(words) do redis.call('HSET', edits, message, known) end
redis.call('SET', trimmed, low)
redis.call('SET', dataset_id, identity .. '@' .. marker)
return {kept, lost}
