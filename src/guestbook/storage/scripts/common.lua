-- Helper functions; they are put before each of the other scripts when it is loaded.

-- Return Redis's own time in ms.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Remove the entries older than `age` ms (0: none) and store the newest id removed in `trimmed`.
local function expire(events, trimmed, age)
  if age == 0 then return end
  local edge = math.max(0, clock() - age) .. '-0'
  local old = redis.call('XREVRANGE', events, '(' .. edge, '-', 'COUNT', 1)[1]
  if old then
    redis.call('SET', trimmed, old[1])
    redis.call('XTRIM', events, 'MINID', edge)
  end
end

-- Keep the newest `max` entries, none of them older than `age`. At most 1000 are removed at once.
local function trim(events, trimmed, max, age)
  expire(events, trimmed, age)
  local length = redis.call('XLEN', events)
  local excess = math.min(length - max, 1000)
  if excess > 0 then
    local old = redis.call('XRANGE', events, '-', '+', 'COUNT', excess)
    redis.call('SET', trimmed, old[#old][1])
    redis.call('XTRIM', events, 'MAXLEN', length - #old)
  end
end

