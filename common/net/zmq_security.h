// What sockets need of a net_security. Private to common/net.
#pragma once
#include "common/net/security.h"
#include "common/net/zmq_loop.h"

// Sets the options of a socket before it binds or connects; none without keys. False: libzmq refused (zmq_errno).
bool zmq_security_listen(const struct net_security *s, void *socket);
bool zmq_security_dial(const struct net_security *s, void *socket, const uint8_t server[NET_KEY_BYTES]);
// Does the list still have this key? For frames of connections that were made before it was taken away. True without keys.
bool zmq_security_allows(const struct net_security *s, const struct net_identity *peer);
bool zmq_security_server(const struct net_security *s, uint32_t at, uint8_t key[NET_KEY_BYTES]);
