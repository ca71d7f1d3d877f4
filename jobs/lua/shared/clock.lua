-- Times are whole milliseconds on this server's clock (µs where named so).

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

local DAY_MS = 86400000

-- Redis turns numbers above 2^53 / 100 or so into exponents; this keeps every digit.
local function int(n)
  return string.format('%.0f', n)
end
