std = "lua51"
max_line_length = 100
read_globals = { "redis", "cjson", "KEYS", "ARGV", "add_change", "clock", "describe", "expire", "is_late",
  "is_message", "trim", "wait_for_rate" }
files["src/guestbook/storage/scripts/common.lua"] = { ignore = { "211" } }
