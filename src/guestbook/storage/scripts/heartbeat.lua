-- Record that a process is alive, and return what it needs to know about the others and the stream.
-- KEYS: pods, dataset id, events, trimmed, edits.
-- ARGV: process, its record ('': it is gone), dataset id to set where there is none, age of entries
--   to keep in ms (0: any), whether to return the peers ('1').
-- Returns {time in ms, dataset id, last id of the stream, entries ever added, peers}; peers is a
--   flat list of process and 'time record'. Records older than a minute are removed.

local now = clock()
-- Messages have to expire also while there are no posts.
expire(KEYS[3], KEYS[4], KEYS[5], tonumber(ARGV[4]))
redis.call('SET', KEYS[2], ARGV[3], 'NX')
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
end
local peers = {}
if ARGV[5] == '1' then peers = redis.call('HGETALL', KEYS[1]) end
for i = 1, #peers, 2 do
  if now - tonumber(string.match(peers[i + 1], '^%d+')) > 60000 then
    redis.call('HDEL', KEYS[1], peers[i])
  end
end
local last_id, added = '0-0', 0
if redis.call('EXISTS', KEYS[3]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[3])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last_id = info[i + 1] end
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
end
return {now, redis.call('GET', KEYS[2]), last_id, added, peers}
