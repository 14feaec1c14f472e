package policiestest

const Clean = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recommendations, owner: team-recommendations, annotations: {runbook: "https://runbooks.example/recs"}}
spec:
  endpoint: {router: azureml-prod, name: recs}
  preflight: [{check: rollback-ready}]
  steps: [{name: canary, weight: 5%}, {name: nearly, weight: 95%}, {name: full, weight: 100%, requires: [po]}]
  bake: 30m
  metrics:
    cpu: {source: prom, value: {query: 'max(cpu{deployment="${deployment}"})'}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%"}
    - {name: watch-through, metric: watched, limit: ">= 0.98x stable"}
    - {name: cpu, metric: cpu, limit: "<= 85%"}
  approvals: [{name: po, from: {notifier: slack, users: [a, b]}}]
  windows:
    timezone: UTC
    open: [{cron: "0 9 * * MON-THU", for: 7h}]
    freezes: [{name: year-end, from: 2026-12-18T00:00, to: 2027-01-04T09:00}]
  page: [oncall]
`
