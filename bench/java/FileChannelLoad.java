import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

import org.apache.flume.ChannelException;
import org.apache.flume.Context;
import org.apache.flume.Event;
import org.apache.flume.Transaction;
import org.apache.flume.channel.file.FileChannel;
import org.apache.flume.event.EventBuilder;

/**
 * The load of `flafka-bench load` on Apache Flume's own file channel: the same batches, the same threads, the same
 * result file. Arguments: directory, events in a transaction, bytes of a body, putting threads, seconds, result file.
 */
public final class FileChannelLoad {
    private static final AtomicBoolean PUTTING = new AtomicBoolean(true);
    private static final AtomicLong PUT = new AtomicLong();

    public static void main(String[] arguments) throws Exception {
        Path directory = Path.of(arguments[0]);
        int batch = Integer.parseInt(arguments[1]);
        int bytes = Integer.parseInt(arguments[2]);
        int putters = Integer.parseInt(arguments[3]);
        long seconds = Long.parseLong(arguments[4]);
        Path result = Path.of(arguments[5]);

        FileChannel channel = open(directory);
        List<List<Long>> waits = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        long started = System.nanoTime();
        long until = started + seconds * 1_000_000_000L;
        for (int index = 0; index < putters; index++) {
            List<Long> own = new ArrayList<>();
            waits.add(own);
            Thread thread = new Thread(() -> put(channel, batch, bytes, until, own));
            thread.start();
            threads.add(thread);
        }
        long[] taken = new long[1];
        Thread taker = new Thread(() -> taken[0] = take(channel, batch));
        taker.start();
        for (Thread thread : threads) {
            thread.join();
        }
        PUTTING.set(false);
        taker.join();
        long wall = System.nanoTime() - started;
        if (taken[0] != PUT.get()) {
            throw new IllegalStateException("put " + PUT.get() + " events, took " + taken[0]);
        }
        long[] sorted = waits.stream().flatMap(List::stream).mapToLong(Long::longValue).toArray();
        Arrays.sort(sorted);
        String text = String.format("{\"events\":%d,\"wall_ns\":%d,\"cpu_ticks\":%d,\"peak_kib\":%d,"
                + "\"p50_ns\":%d,\"p99_ns\":%d}%n", taken[0], wall, ticks(), peak(),
                sorted[Math.min(sorted.length - 1, sorted.length / 2)],
                sorted[Math.min(sorted.length - 1, (int) (sorted.length * 99L / 100))]);
        channel.stop();
        Files.writeString(result, text);
        System.exit(0);
    }

    private static FileChannel open(Path directory) {
        FileChannel channel = new FileChannel();
        channel.setName("c1");
        channel.configure(new Context(Map.of(
                "checkpointDir", directory.resolve("checkpoint").toString(),
                "dataDirs", directory.resolve("data").toString(),
                "capacity", "1000000",
                "transactionCapacity", "10000")));
        channel.start();
        return channel;
    }

    private static void put(FileChannel channel, int batch, int bytes, long until, List<Long> waits) {
        byte[] body = "x".repeat(bytes).getBytes(StandardCharsets.UTF_8);
        Map<String, String> headers = Map.of("file", "/var/log/nginx/access.log");
        while (System.nanoTime() < until) {
            List<Event> events = new ArrayList<>(batch);
            for (int index = 0; index < batch; index++) {
                events.add(EventBuilder.withBody(body, headers));
            }
            long begun = System.nanoTime();
            Transaction transaction = channel.getTransaction();
            transaction.begin();
            try {
                for (Event event : events) {
                    channel.put(event);
                }
                transaction.commit();
                waits.add(System.nanoTime() - begun);
                PUT.addAndGet(batch);
            } catch (ChannelException full) {
                transaction.rollback();
            } finally {
                transaction.close();
            }
        }
    }

    private static long take(FileChannel channel, int batch) {
        long taken = 0;
        while (true) {
            boolean last = !PUTTING.get();
            Transaction transaction = channel.getTransaction();
            transaction.begin();
            int count = 0;
            while (count < batch && channel.take() != null) {
                count++;
            }
            transaction.commit();
            transaction.close();
            taken += count;
            if (count == 0) {
                if (last) {
                    return taken;
                }
                pause();
            }
        }
    }

    /** An empty channel answers at once; Flume's own sink runner sleeps too. */
    private static void pause() {
        try {
            Thread.sleep(1);
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
    }

    private static long ticks() throws Exception {
        String stat = Files.readString(Path.of("/proc/self/stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return Long.parseLong(fields[11]) + Long.parseLong(fields[12]);
    }

    private static long peak() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", ""));
            }
        }
        throw new IllegalStateException("no VmHWM in /proc/self/status");
    }
}
