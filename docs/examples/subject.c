/* A bus of ten lines for exitbus-stress: a pipe. See docs/subjects.md. */
/* clang-format off */
#include <errno.h>
#include <exitbus-stress/subject.h>
#include <fcntl.h>
#include <unistd.h>
static int end[2];
static int create(const struct subject_host *h, void **bus) { return (void)h, *bus = end, pipe(end) || fcntl(end[0], F_SETFL, O_NONBLOCK) ? -errno : 0; }
static int destroy(void *bus) { return (void)bus, close(end[0]) | close(end[1]); }
static int publish(void *bus, const struct subject_event *e, size_t n, uint64_t *seq) { return (void)bus, (void)n, (void)seq, TEMP_FAILURE_RETRY(write(end[1], e, sizeof *e)) < 0 ? -errno : 0; }
static int subscribe(void *bus, const struct subject_topic *t, uint32_t flags, void **sub) { return (void)t, (void)flags, *sub = bus, 0; }
static int unsubscribe(void *sub) { return (void)sub, 0; }
static ssize_t receive(void *sub, struct subject_event *e, size_t n, int64_t ns) { return (void)sub, (void)n, (void)ns, read(end[0], e, sizeof *e) > 0 ? 1 : -EAGAIN; }
const struct subject exitbus_stress_subject = { SUBJECT_HEAD("pipe", "a pipe: one subscription, to everything"), .claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER, .topics = SUBJECT_TOPIC_BIT(SUBJECT_TOPIC_ALL), .subscriptions_max = 1, .create = create, .destroy = destroy, .publish = publish, .subscribe = subscribe, .unsubscribe = unsubscribe, .receive = receive };
