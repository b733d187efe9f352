package metrics

import (
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// prefix begins the names of all metrics.
const prefix = "limpet_"

// A family is a metric: its name, its labels, and what it counts.
type family struct {
	name   string // without the prefix
	kind   dto.MetricType
	help   string
	labels []string // in the order of the values
}

const (
	counter   = dto.MetricType_COUNTER
	gauge     = dto.MetricType_GAUGE
	histogram = dto.MetricType_HISTOGRAM
)

// The labels that several families share.
var (
	ofListener = []string{"vs", "listener"}
	ofService  = []string{"vs"}
	ofPool     = []string{"vs", "pool"}
	ofServer   = []string{"vs", "pool", "server"}
	ofTable    = []string{"vs", "table"}
	ofRule     = []string{"vs", "policy", "rule", "dry_run"}
	ofGroup    = []string{"vs", "group", "kind"}
	ofScript   = []string{"vs", "script", "event"}
)

// with returns labels and more.
func with(labels []string, more ...string) []string { return slices.Concat(labels, more) }

// All families, in the order of the reference.
var (
	all []*family

	buildInfo  = register("build_info", gauge, "The version of the program, which has the value 1.", "version", "revision", "goversion")
	reloadOK   = register("config_last_reload_successful", gauge, "1 if the latest reload of the configuration succeeded, else 0.")
	reloadTime = register("config_last_reload_success_timestamp_seconds", gauge, "When the configuration in force was loaded.")
	reloads    = register("config_reloads_total", counter, "Reloads of the configuration.", "result")
	logDropped = register("log_dropped_total", counter, "Lines that logs have not got: beyond the rates of a service, or because the queue was full.", "vs", "class", "reason")

	connections     = register("connections", gauge, "Connections of clients that are open.", ofListener...)
	accepted        = register("connections_accepted_total", counter, "Connections of clients, refused ones included.", ofListener...)
	refused         = register("connections_refused_total", counter, "Connections that were closed when they were accepted.", with(ofListener, "reason")...)
	withoutRequest  = register("connections_without_request_total", counter, "Connections whose first request was malformed, had too large a header, or was not complete in time.", ofListener...)
	handshakes      = register("tls_handshakes_total", counter, "Handshakes of TLS that succeeded.", with(ofListener, "version")...)
	handshakeErrors = register("tls_handshake_errors_total", counter, "Handshakes of TLS that failed.", with(ofListener, "reason")...)

	requests      = register("requests_total", counter, "Requests that were completed, by the status of the response.", with(ofService, "code")...)
	duration      = register("request_duration_seconds", histogram, "Time from the beginning of a request to the end of its response, without upgraded connections.", ofService...)
	firstByte     = register("request_first_byte_seconds", histogram, "Time from the beginning of a request to the beginning of its response.", ofService...)
	inFlight      = register("requests_in_flight", gauge, "Requests under way, without upgraded connections.", ofService...)
	upgraded      = register("upgraded_connections", gauge, "Connections that were upgraded, such as WebSockets, and tunnels.", ofService...)
	received      = register("request_body_bytes_total", counter, "Bytes of the bodies of requests, as far as they were read.", ofService...)
	sent          = register("response_body_bytes_total", counter, "Bytes of the bodies of responses, as far as they were written.", ofService...)
	significant   = register("requests_significant_total", counter, "Significant requests and denied connections. One of them may have several reasons.", with(ofService, "reason")...)
	outcomes      = register("persistence_outcomes_total", counter, "Requests by the outcome of the client's binding to a server.", with(ofService, "target", "outcome")...)
	sources       = register("persistence_sources_total", counter, "Requests of bound clients by where the binding came from.", with(ofService, "target", "source")...)
	healthScore   = register("health_score", gauge, "The health of the service, from 0 to 100.", ofService...)
	healthPenalty = register("health_penalty", gauge, "What reduces the health, in points.", with(ofService, "row")...)

	poolRequests      = register("pool_requests_total", counter, "Requests sent to servers, each try for itself, by the status of the response; error if there was none.", with(ofPool, "code")...)
	poolResponse      = register("pool_response_duration_seconds", histogram, "Time from sending a request to a server to the header of its response.", ofPool...)
	connectErrors     = register("pool_connect_errors_total", counter, "Tries for which no connection to the server could be made.", ofPool...)
	reselects         = register("pool_reselects_total", counter, "Further servers tried.", ofPool...)
	reselectsRefused  = register("pool_reselects_refused_total", counter, "Further servers not tried because the budget of retries was spent.", ofPool...)
	poolServers       = register("pool_servers", gauge, "Servers of the pool by state.", with(ofPool, "state")...)
	poolLeases        = register("pool_leases", gauge, "Requests that servers of the pool have.", ofPool...)
	queueLength       = register("pool_queue_length", gauge, "Requests that wait for a server. Only pools with a queue have it.", ofPool...)
	queueLimit        = register("pool_queue_limit", gauge, "Requests that may wait for a server.", ofPool...)
	queueWait         = register("pool_queue_wait_seconds", histogram, "Time that requests have waited for a server.", ofPool...)
	queueRefused      = register("pool_queue_refused_total", counter, "Requests that got no server from the queue.", with(ofPool, "reason")...)
	stateChanges      = register("pool_state_changes_total", counter, "Changes of servers' states.", with(ofPool, "to", "cause")...)
	checks            = register("health_checks_total", counter, "Checks of health monitors by result.", with(ofPool, "monitor", "result")...)
	checkSeconds      = register("health_check_seconds_total", counter, "Time that checks of health monitors have taken.", with(ofPool, "monitor")...)
	discoveryFailures = register("pool_discovery_failures_total", counter, "Failed look-ups of the pool's servers.", ofPool...)

	serverUp        = register("server_up", gauge, "1 if the server takes new requests, 0 if it should but does not. Disabled and draining servers do not have it.", ofServer...)
	serverRequests  = register("server_requests_total", counter, "Requests that the server got.", ofServer...)
	serverFailures  = register("server_failures_total", counter, "Requests in which the server failed.", ofServer...)
	serverLeases    = register("server_leases", gauge, "Requests that the server has.", ofServer...)
	serverFirstByte = register("server_first_byte_seconds", gauge, "The smoothed time to the header of the server's responses.", ofServer...)
	drainLeft       = register("server_drain_left", gauge, "What a drain waits for: requests, and bound clients.", with(ofServer, "what")...)
	drainDeadline   = register("server_drain_deadline_timestamp_seconds", gauge, "When the drain ends at the latest.", ofServer...)

	tableEntries      = register("table_entries", gauge, "Entries of the table.", ofTable...)
	tableBytes        = register("table_bytes", gauge, "Memory of the table's entries.", ofTable...)
	tableEntriesLimit = register("table_entries_limit", gauge, "How many entries the table may have.", ofTable...)
	tableBytesLimit   = register("table_bytes_limit", gauge, "How much memory the entries of the table may have.", ofTable...)
	tableLookups      = register("table_lookups_total", counter, "Look-ups by result.", with(ofTable, "result")...)
	tableStores       = register("table_stores_total", counter, "Values stored.", with(ofTable, "kind")...)
	tableDeletions    = register("table_deletions_total", counter, "Entries deleted.", with(ofTable, "cause")...)
	tableRefusals     = register("table_refusals_total", counter, "Values not stored.", with(ofTable, "reason")...)
	snapshotTime      = register("table_snapshot_last_success_timestamp_seconds", gauge, "When the tables of the service were last saved to their file.", ofService...)
	snapshotFailures  = register("table_snapshot_failures_total", counter, "Failed attempts to save the tables of the service.", ofService...)
	snapshotBytes     = register("table_snapshot_bytes", gauge, "Size of the file that has the tables of the service.", ofService...)

	redisUp            = register("redis_up", gauge, "1 if the store has a connection to the server and calls go there, else 0.", with(ofService, "node")...)
	redisOpened        = register("redis_circuit_opened_total", counter, "Times that the store has lost its server, so that tables in memory answer.", ofService...)
	redisCalls         = register("redis_calls_total", counter, "Calls by verb, and by what answered them: the server, the near cache or a table in memory; failed if nothing did.", with(ofService, "verb", "result")...)
	redisDuration      = register("redis_call_duration_seconds", histogram, "Time of calls that were sent to the server.", ofService...)
	redisNear          = register("redis_near_entries", gauge, "Values in the near cache.", ofService...)
	redisInvalidations = register("redis_near_invalidations_total", counter, "Keys that the server has reported as changed.", ofService...)
	redisReturned      = register("redis_returned_total", counter, "Entries in memory that were written back after the server was lost, or that it had already.", ofService...)
	redisDropped       = register("redis_dropped_total", counter, "Entries in memory that could not be written back after the server was lost.", ofService...)
	redisRefusals      = register("redis_refusals_total", counter, "Values not stored.", with(ofService, "reason")...)

	ruleHits   = register("policy_rule_hits_total", counter, "Connections and requests to which the rule applied; in dry run, would have.", ofRule...)
	ruleDrops  = register("policy_rule_drops_total", counter, "Hits that were refused; in dry run, would have been.", ofRule...)
	ruleErrors = register("policy_rule_errors_total", counter, "Evaluations of the rule that failed.", ofRule...)
	rateLimits = register("rate_limit_decisions_total", counter, "Decisions of rate limits of rules.", "vs", "limiter", "result")
	groupSize  = register("ip_group_entries", gauge, "Entries of the group.", ofGroup...)

	scriptRuns         = register("script_runs_total", counter, "Runs of the script.", ofScript...)
	scriptInstructions = register("script_instructions_total", counter, "Instructions that the script has run.", ofScript...)
	scriptSeconds      = register("script_seconds_total", counter, "Time that the script has run.", ofScript...)
	scriptFailures     = register("script_failures_total", counter, "Runs that failed, by kind.", with(ofScript, "reason")...)
	scriptStates       = register("script_states_created_total", counter, "States of Lua that were made.", ofService...)
	customTotal        = register("script_custom_total", counter, "Counters of avi.vs.analytics.", with(ofService, "name")...)
	customValue        = register("script_custom_value", gauge, "Gauges of avi.vs.analytics.", with(ofService, "name")...)
	customHidden       = register("script_custom_names_hidden", gauge, "Counters and gauges of avi.vs.analytics that are not exported, because there are too many.", ofService...)
)

func register(name string, kind dto.MetricType, help string, labels ...string) *family {
	f := &family{name, kind, help, labels}
	all = append(all, f)
	return f
}
