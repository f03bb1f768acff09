-- Refuse posts from a network for some time from now.
-- KEYS: control.
-- ARGV: field of the ban, for how many ms, how many bans there may be.
-- Returns 1, or 0 if there are as many other ones.

local others = 0
for i, name in ipairs(redis.call('HGETALL', KEYS[1])) do
  if i % 2 == 1 and string.sub(name, 1, 4) == 'ban:' and name ~= ARGV[1] then
    others = others + 1
  end
end
if others >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', clock() + tonumber(ARGV[2])))
return 1
