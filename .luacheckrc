std = "lua51"
max_line_length = 100
read_globals = { "redis", "KEYS", "ARGV", "clock", "expire", "trim" }
files["src/guestbook/storage/scripts/common.lua"] = { ignore = { "211" } }
