-- The API refused a request as one too many: find the level at which it does, and keep to that.
--
-- What it allows shows in how many of our requests it let in within the window before the refused one.
-- A refusal that comes when we were at our rate's very end may be a mere late arrival: the first is
-- passed over. The level holds for some seconds, longer each time that it is found again.
--
-- Refusals of slots that were granted before the last one was judged say nothing new.
--
-- arrived: as in note_arrival
-- Reply: the rate as a share of the limit (times 1000) if it was changed or confirmed, else -1
local A = arguments('arrived')
local STRAY_US = 5e6      -- a refusal at the rate's very end is passed over if none came for so long
local SLOWEST = 0.05      -- of the limit, after repeated refusals
local BLIND = 0.8         -- of the rate that was, where what came before is not known any more
local FIRST_HOLDS_S, LONGEST_HOLDS_S = 10, 30

local slot, per_window, sent = string.match(A.arrived, '^(%d+):(%d+):(%d+)')
slot, per_window, sent = tonumber(slot), tonumber(per_window), tonumber(sent)
local now = now_us()
local pace = fields(K.pace, 'slot', 'since', 'per_window', 'window_us', 'judged', 'refused_slots',
  'refused_at_us', 'level', 'level_at_us', 'level_holds_s', 'burst_at_us', 'burst_rate')
local number, since = tonumber(pace.slot) or 0, tonumber(pace.since) or 0
local window = tonumber(pace.window_us) or 1e6

-- those that the ring still holds
local refused, kept = {}, {}
for each in string.gmatch((pace.refused_slots or '') .. ' ' .. int(slot), '%d+') do
  if tonumber(each) >= number - 5 * per_window and not refused[tonumber(each)] then
    refused[tonumber(each)] = true
    kept[#kept + 1] = each
  end
end
redis.call('HINCRBY', K.pace, 'refused', 1)
redis.call('HSET', K.pace, 'refused_at_us', int(now), 'refused_slots', table.concat(kept, ' '))

if slot < (tonumber(pace.judged) or 0) and slot < number then return -1 end
redis.call('HSET', K.pace, 'judged', int(number))

-- How many were let in within the window before it; nil if that is not known any more.
local function let_in()
  if tonumber(pace.per_window) ~= per_window then return nil end
  local count = 0
  for before = slot - 1, math.max(since, slot - per_window), -1 do
    local arrived = ring_at(before, per_window)
    if not arrived then return nil end
    if arrived > sent - window and not refused[before] then count = count + 1 end
  end
  return count
end

-- From here on all rates are slots per window.
local unit = window / 1e6
local limit = tonumber(pace.per_window) or per_window
local rate = allowed_rate(limit / unit, pace, now) * unit
local level = rate < limit and tonumber(pace.level) * unit or nil
local most = math.ceil(rate - 1e-6) - 1 -- at its very end
local count = let_in()
local probing = level and rate > level * (1 + 1e-6)
local first = now - (tonumber(pace.refused_at_us) or 0) > STRAY_US

if count and count >= most and not probing then
  if not level then more_caution() end -- else it is the level that may have moved
  if first then return -1 end
end

local found
if not count then
  found = probing and level or rate * BLIND
elseif probing and count >= level - 1 then
  found = math.max(count, level)
else
  found = math.min(count, rate - 1)
end
-- what comes within a window of each other halves the rate, no more
local burst_at, burst_rate = tonumber(pace.burst_at_us), tonumber(pace.burst_rate)
if not burst_at or now < burst_at or now - burst_at > window then
  burst_at, burst_rate = now, rate
end
found = math.max(found, limit * SLOWEST, burst_rate / 2)
local again = probing and math.abs(found - level) <= 1
redis.call('HSET', K.pace, 'level', tostring(found / unit), 'level_at_us', int(now),
  'level_holds_s', again and math.min(LONGEST_HOLDS_S, 2 * pace.level_holds_s) or FIRST_HOLDS_S,
  'burst_at_us', int(burst_at), 'burst_rate', tostring(burst_rate))
return math.floor(found / limit * 1000)
