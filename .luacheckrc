-- The scripts run one behind the other, after all of jobs/lua/shared: what those define at their top
-- level is there for every script. `make lua` checks them.
std = "lua51"
max_line_length = 120
read_globals = {
  "KEYS", "ARGV", "redis", "cjson",
  -- by jobs/scripts.py:
  "K", "READS", "WRITES", "SEALED", "LAPSE_MS", "ALIVE_MS", "BLOCK_ROWS", "RATE_FADES_MS", "LEVEL_GROWTH", "SPARE_THREADS",
  "DELIVERY_MS", "MOST_DELIVERIES", "MOST_PER_ENDPOINT", "FINAL", "OPEN", "IN_FLIGHT",
  "IS_SENT", "FOR_A_PERSON", "BATCH_OVER",
  "LEASE_MS", "GRACE_MS", "INTERVAL_MS", "PROVABLE_MS", "RETENTION_MS", "CANARY_MS", "POLICY", "MAX_ATTEMPTS", "OWN_BOUNDS",
  BATCH = {fields = {"RUNNING", "PAUSED", "DONE", "CANCELLED"}},
  CODE = {fields = {"UNPROVED", "SENT_MEANWHILE", "UNREADABLE"}},
}
for shared in io.popen("ls jobs/lua/shared/*.lua"):lines() do
  for line in io.lines(shared) do
    local name = line:match("^local function ([%w_]+)") or line:match("^local ([%w_]+)")
    if name then read_globals[#read_globals + 1] = name end
  end
end
files["jobs/lua/shared"] = {
  ignore = {"211", "221", "411", "431"}, -- used by the scripts; `redis` stands for the one that mends
}
