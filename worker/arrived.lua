-- Tell when a request reached the API at the latest, where no outcome is recorded with it just yet.
-- ARGV: arrived (see note_arrival)
-- Twice: nothing changes but how much is thought to be known of the way.
note_arrival(ARGV[1])
