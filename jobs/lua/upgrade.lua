-- Take the lock on the ledger's upgrade, or keep it and note how far a step has come (jobs/upgrade.py).
-- known: what the caller remembers of the ledger (see identity.lua); token: of its upgrade
-- settle_ms: so long after the version was raised older workers may still hold jobs
-- done: the version of whose step a part is done, 0: none yet; cursor: where its next part begins, "": it
--   has none
-- Reply: {version that all data have, where the next step's next part begins}; {} if nothing is to be done
--   now, or another process is at it
-- Twice: nothing is noted twice; the same reply, or {} where all was done.
-- Of the ledger's hash: upgraded: the version that all data have; upgrade_cursor, upgrade_token,
--   upgrade_until: where the next step goes on, who is at it, and until when nobody else may be
local A = arguments('known', 'token', 'lock_ms:number', 'settle_ms:number', 'done:number', 'cursor')
if refused(A.known) then return {} end
local own = fields(K.ledger, 'version', 'upgraded', 'raised_at', 'upgrade_cursor', 'upgrade_token',
  'upgrade_until')
local upgraded, cursor = tonumber(own.upgraded or 1), own.upgrade_cursor or ''
local is_mine = own.upgrade_token == A.token
local left_ms = tonumber(own.upgrade_until or 0) - NOW
if not is_mine and left_ms > 0 and left_ms <= A.lock_ms then return {} end
if is_mine and A.done == upgraded + 1 then
  cursor = A.cursor
  if cursor == '' then upgraded = A.done end
  redis.call('HSET', K.ledger, 'upgraded', int(upgraded), 'upgrade_cursor', cursor)
end
if upgraded >= WRITES then
  redis.call('HDEL', K.ledger, 'upgrade_cursor', 'upgrade_token', 'upgrade_until')
  return is_mine and {int(upgraded), ''} or {}
end
if tonumber(own.version or 1) < WRITES then
  raise_version(WRITES)
  own.raised_at = NOW
end
if NOW < tonumber(own.raised_at or 0) + A.settle_ms then return {} end
redis.call('HSET', K.ledger, 'upgrade_token', A.token, 'upgrade_until', int(NOW + A.lock_ms))
return {int(upgraded), cursor}
