-- Record that a process is alive, and return what it needs to know about the others and the stream.
-- KEYS: pods, dataset id, events, trimmed, edits, control, held.
-- ARGV: process, its record ('': it is gone), dataset id to set where there is none, age of entries
--   to keep in ms (0: any), whether to return the peers ('1').
-- Returns {time in ms, dataset id, last id of the stream, entries ever added, peers, control,
--   held}; peers is a flat list of process and 'time record', control one of fields and values,
--   held is {how many messages, id of the oldest, how many ever}. Records older than a minute are
--   removed, and bans that have ended.

local now = clock()
-- Messages have to expire even while there are no posts.
local age = tonumber(ARGV[4])
expire(KEYS[3], KEYS[4], KEYS[5], age)
if age > 0 then redis.call('XTRIM', KEYS[7], 'MINID', math.max(0, now - age) .. '-0') end
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
local control = redis.call('HGETALL', KEYS[6])
for i = 1, #control, 2 do
  if string.sub(control[i], 1, 4) == 'ban:' and (tonumber(control[i + 1]) or 0) <= now then
    redis.call('HDEL', KEYS[6], control[i])
  end
end
local stream, held = describe(KEYS[3]), describe(KEYS[7])
local oldest = held['first-entry'] and held['first-entry'][1]
return {
  now, redis.call('GET', KEYS[2]),
  stream['last-generated-id'] or '0-0', stream['entries-added'] or 0, peers, control,
  {held['length'] or 0, oldest or '0-0', held['entries-added'] or 0},
}
