// What belayd may do in Azure, split so that each identity has the least.
//
//   az deployment sub create --location LOCATION --template-file roles.bicep
//
// Assign: reader and traffic to belayd's identity, on the workspace; metrics, on the
// subscription (Azure Monitor's batch metrics are asked there); logs, on the Log
// Analytics workspace, or app insights, on the workspace behind Application Insights,
// for Kubernetes endpoints; prober, on the workspace, to another identity whose token
// is the router's probe.
//
// belayd can neither see an endpoint's keys nor change or delete deployments. ARM
// has no right for the traffic alone: who may write an endpoint may write all of
// it, and belayd itself takes care to change nothing but the traffic.
targetScope = 'subscription'

@description('Where the roles can be assigned.')
param assignableScope string = subscription().id

var roles = [
  {
    name: 'Belay Reader'
    description: 'Reads online endpoints and their deployments.'
    actions: [
      'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read'
      'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/read'
    ]
  }
  {
    name: 'Belay Traffic'
    description: 'Writes online endpoints, to move their traffic.'
    actions: [
      'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read'
      'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write'
    ]
  }
  {
    name: 'Belay Metrics'
    description: 'Reads platform metrics.'
    actions: [
      'Microsoft.Insights/metrics/read'
    ]
  }
  {
    name: 'Belay Logs'
    description: 'Queries the logs of a Log Analytics workspace.'
    actions: [
      'Microsoft.OperationalInsights/workspaces/read'
      'Microsoft.OperationalInsights/workspaces/query/read'
      'Microsoft.OperationalInsights/workspaces/query/*/read'
    ]
  }
  {
    name: 'Belay App Insights'
    description: 'Queries the requests that Application Insights keeps in a Log Analytics workspace.'
    actions: [
      'Microsoft.OperationalInsights/workspaces/read'
      'Microsoft.OperationalInsights/workspaces/query/read'
      'Microsoft.OperationalInsights/workspaces/query/AppRequests/read'
    ]
  }
  {
    name: 'Belay Prober'
    description: 'Sends sample requests to online endpoints.'
    actions: [
      'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action'
    ]
  }
]

resource definitions 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [for role in roles: {
  name: guid(assignableScope, role.name)
  properties: {
    roleName: role.name
    description: role.description
    type: 'CustomRole'
    permissions: [
      {
        actions: role.actions
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: [
      assignableScope
    ]
  }
}]
