/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Print every message of a stream, one a line: stream URL NAME. */
#include <stdint.h>
#include <stdio.h>

#include <nats/nats.h>

#define WAIT_MS 20000

static natsStatus print_all(jsCtx *stream, uint64_t count)
{
    natsSubscription *subscription = NULL;
    natsMsg *message = NULL;
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Ordered = true;
    natsStatus status = js_SubscribeSync(&subscription, stream, "exitbus.>", NULL, &options, NULL);
    for (uint64_t i = 0; status == NATS_OK && i < count; i++) {
        status = natsSubscription_NextMsg(&message, subscription, WAIT_MS);
        if (status != NATS_OK)
            break;
        printf("%s %.*s\n", natsMsg_GetSubject(message), natsMsg_GetDataLength(message),
               natsMsg_GetData(message));
        natsMsg_Destroy(message);
    }
    natsSubscription_Destroy(subscription);
    return status;
}

int main(int argc, char **argv)
{
    natsConnection *connection = NULL;
    jsCtx *stream = NULL;
    jsStreamInfo *info = NULL;
    if (argc != 3)
        return 2;
    natsStatus status = natsConnection_ConnectTo(&connection, argv[1]);
    if (status == NATS_OK)
        status = natsConnection_JetStream(&stream, connection, NULL);
    if (status == NATS_OK)
        status = js_GetStreamInfo(&info, stream, argv[2], NULL, NULL);
    if (status == NATS_OK)
        status = print_all(stream, info->State.Msgs);
    if (status != NATS_OK)
        fprintf(stderr, "stream: %s\n", natsStatus_GetText(status));
    jsStreamInfo_Destroy(info);
    jsCtx_Destroy(stream);
    natsConnection_Destroy(connection);
    nats_Close();
    return status == NATS_OK ? 0 : 1;
}
