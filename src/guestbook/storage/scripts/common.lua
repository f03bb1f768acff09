-- Helper functions, which are prepended to each of the other scripts.

-- Return Redis's own time in ms.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return whether a deadline in ms of that time has passed (0: there is none).
local function is_late(deadline)
  deadline = tonumber(deadline)
  return deadline > 0 and clock() > deadline
end

-- Enforce a rate of `times` (0: no limit) in `window` ms: return how many ms to wait, or count this
-- time and return nil. `rate` is a list of the last times.
local function wait_for_rate(rate, times, window)
  times, window = tonumber(times), tonumber(window)
  if times == 0 then return nil end
  local now = clock()
  local last = redis.call('LINDEX', rate, times - 1)
  if last and last + window > now then return last + window - now end
  redis.call('LPUSH', rate, now)
  redis.call('LTRIM', rate, 0, times - 1)
  redis.call('PEXPIRE', rate, window)
  return nil
end

-- Return whether there is a message of this id: deletions and edits are entries, too.
local function is_message(events, id)
  local entry = redis.call('XRANGE', events, id, id)[1]
  return entry and entry[2][1] ~= 'deleted' and entry[2][1] ~= 'edited'
end

-- Add an entry about a message, in place of the edit that the message may have. `replaces` in the
-- new entry are the removed edits, newest first: pods have read them. The 20 newest will do.
-- `edits` is a hash: by message, the ids of its edits and the newest text.
-- Returns the id of the entry, and the ids of all edits without it.
local function add_change(events, edits, message, fields)
  local known = redis.call('HMGET', edits, message)[1]
  local replaced = known and string.match(known, '^%S+')
  if replaced then
    redis.call('XDEL', events, (string.match(replaced, '^[^,]+')))
    redis.call('HDEL', edits, message)
    fields[#fields + 1] = 'replaces'
    fields[#fields + 1] = replaced
  end
  return redis.call('XADD', events, '*', unpack(fields)), replaced
end

-- Remove up to `count` of the oldest entries, none newer than `last`, with the texts of edits among
-- them, and store the newest id removed in `trimmed`.
local function remove_oldest(events, trimmed, edits, last, count)
  local old = redis.call('XRANGE', events, '-', last, 'COUNT', count)
  if #old == 0 then return end
  for _, entry in ipairs(old) do
    if entry[2][1] == 'edited' then redis.call('HDEL', edits, entry[2][2]) end
  end
  redis.call('SET', trimmed, old[#old][1])
  redis.call('XTRIM', events, 'MAXLEN', redis.call('XLEN', events) - #old)
end

-- Remove entries older than `age` ms (0: none), at most 1000 at once.
local function expire(events, trimmed, edits, age)
  age = tonumber(age)
  if age == 0 then return end
  remove_oldest(events, trimmed, edits, '(' .. math.max(0, clock() - age) .. '-0', 1000)
end

-- Keep the newest `max` entries, none of them older than `age`. At most 1000 of each are removed.
local function trim(events, trimmed, edits, max, age)
  expire(events, trimmed, edits, age)
  local excess = redis.call('XLEN', events) - tonumber(max)
  if excess > 0 then remove_oldest(events, trimmed, edits, '+', math.min(excess, 1000)) end
end

-- Return the fields of XINFO STREAM by name; an empty table if the stream does not exist.
local function describe(stream)
  local found = {}
  if redis.call('EXISTS', stream) == 0 then return found end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do found[info[i]] = info[i + 1] end
  return found
end
