-- The health check for Argo CD in docs/kubernetes.md: what it says of pipelines in each state.
--
--   glua charts/health_test.lua CHECK.lua
local check = assert(loadfile(arg[1]))

local function pipeline(generation, conditions)
  local object = { metadata = { generation = 2 }, status = { observedGeneration = generation, conditions = {} } }
  for kind, status in pairs(conditions) do
    table.insert(object.status.conditions, { type = kind, status = status, message = kind .. " is " .. status })
  end
  return object
end

local cases = {
  { "Progressing", { metadata = { generation = 1 } } },
  { "Progressing", { metadata = { generation = 1 }, status = { suspended = false } } },
  { "Progressing", pipeline(1, { Ready = "True" }) },
  { "Progressing", pipeline(2, { Ready = "False", Stalled = "False", Suspended = "False", DataLossDetected = "Unknown" }) },
  { "Progressing", pipeline(2, { Ready = "Unknown" }) },
  { "Healthy", pipeline(2, { Ready = "True", Stalled = "False", Suspended = "False", DataLossDetected = "False" }) },
  { "Suspended", pipeline(2, { Ready = "False", Suspended = "True" }) },
  { "Suspended", pipeline(2, { Ready = "True", Suspended = "False", Paused = "True" }) },
  { "Healthy", pipeline(2, { Ready = "True", Paused = "False" }) },
  { "Degraded", pipeline(2, { Ready = "False", Suspended = "True", Stalled = "True" }) },
  { "Degraded", pipeline(2, { Ready = "True", DataLossDetected = "True" }) },
}
for number, case in ipairs(cases) do
  obj = case[2]
  local said = check()
  if said.status ~= case[1] or type(said.message) ~= "string" then
    error(string.format("case %d: %s (%s) is not %s", number, said.status, tostring(said.message), case[1]))
  end
end
print(#cases .. " pipelines")
