-- Add exported messages under their own ids. A stream only grows at its end, so a message older
-- than the newest entry has no place in it any more.
-- KEYS: events, trimmed, edits.
-- ARGV: entries to keep, their age in ms (0: any), then id, text, pod, author and time of the edit
--   ("": none) of each.
-- Returns for each 'added', 'known', 'expired', 'trimmed' or 'too old'.

local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local max, age = tonumber(ARGV[1]), tonumber(ARGV[2])
local edge = age > 0 and clock() - age or 0
local trimmed_ms, trimmed_seq = parts(redis.call('GET', KEYS[2]) or '0-0')

local function restore(id, text, pod, author, edited_at)
  local ms, seq = parts(id)
  if ms < edge then return 'expired' end
  local fields = {'text', text, 'pod', pod}
  if author ~= '' then fields[5], fields[6] = 'author', author end
  if edited_at ~= '' then fields[#fields + 1], fields[#fields + 2] = 'edited_at', edited_at end
  local answer = redis.pcall('XADD', KEYS[1], id, unpack(fields))
  if type(answer) ~= 'table' or not answer.err then return 'added' end
  if not string.find(answer.err, 'equal or smaller') then return answer end
  if redis.call('XRANGE', KEYS[1], id, id)[1] then return 'known' end
  if ms < trimmed_ms or ms == trimmed_ms and seq <= trimmed_seq then return 'trimmed' end
  return 'too old'
end

local outcomes = {}
for i = 3, #ARGV, 5 do
  local outcome = restore(unpack(ARGV, i, i + 4))
  if type(outcome) == 'table' then return outcome end
  outcomes[#outcomes + 1] = outcome
end
trim(KEYS[1], KEYS[2], KEYS[3], max, age)
return outcomes
