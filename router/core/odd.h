// What the tests may make of a router core: deliberate bugs, which the simulator must catch, and legal but unusual
// behaviour, which it must bear. Both are options of the core, and off in everything that ships.
#pragma once
#include "common/base/buggify.h"

// Deliberate bugs, so that tests can prove that the simulator catches them. 0 in everything that ships.
enum router_bug {
    ROUTER_BUG_NONE = 0,
    ROUTER_BUG_OFFSET_RULE,       // see stream_rx.h
    ROUTER_BUG_STALE_ATTEMPT,     // see stream_rx.h
    ROUTER_BUG_QUEUE_RESERVATION, // who leaves the queue unserved stays counted
    ROUTER_BUG_PARKED_FOR_EVER,   // a stream whose requester is gone waits for it without an end
    ROUTER_BUG_ATTEMPT_AGAIN,     // the next attempt has the number of the last one
};

// Points of common/base/buggify.h: what a router may do at any time, though it rarely has a reason to.
enum router_odd {
    ROUTER_ODD_REFUSE,    // refuses a request as if it were overloaded
    ROUTER_ODD_HEARTBEAT, // says something long before it must
    ROUTER_ODD_SUSPECT,   // takes a link for silent
    ROUTER_ODD_ANY_OFFER, // takes another candidate than the best
    ROUTER_ODD_MOVE,      // takes a stream off its candidate and places it again
    ROUTER_ODD_SYNC,      // asks where a stream stands
    ROUTER_ODD_RESEND,    // asks again for records that it has
    ROUTER_ODD_ACK,       // acknowledges at once
    ROUTER_ODD_COUNT
};
